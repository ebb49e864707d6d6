"""How an answer is compared with what it should be, and how sure a figure is: for evaluations and for the search of a prompt."""
