"""Kills, damage, full disks, several processes, resumes."""
