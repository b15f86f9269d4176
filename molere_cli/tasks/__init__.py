"""What a command asks for: one file a task, of the command's name, and what several tasks share."""
