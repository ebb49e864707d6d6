"""A dataset's profile from its files: figures as plain data, plots and a page. Imported by the freezing process alone."""
