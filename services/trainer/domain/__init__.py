"""The rules of training that need no tensor: recipes, plans of steps, schedules and causes of failure."""
