"""Files that commands name: on disks of this machine, and behind URLs."""
