"""What plugins implement, and the records that travel between them."""
