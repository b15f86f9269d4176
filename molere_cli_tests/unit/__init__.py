"""What a function or a file gives, against closed forms and float64."""
