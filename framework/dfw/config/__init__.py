"""What a YAML file is: settings, schedules, merging, messages. Imports no torch."""
