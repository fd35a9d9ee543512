"""What requests hold: bodies, uploads, and the text of headers and addresses."""
