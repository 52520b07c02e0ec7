"""What clients say of their programs: one small file for each family of clients, and the reader of them all."""
