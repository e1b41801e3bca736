"""What the command line reads and shows. Imported by `workpool.cli` alone, never in Lambda."""
