"""The pure rules of the door: what a record must be, and what a submission does to the record that stands."""
