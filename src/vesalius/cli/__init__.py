"""The command line: main.py and one file per command. The folder is the list; nothing is imported before it is asked for."""
