"""Files in and out: readers of conversations and labels, writers, exporters."""
