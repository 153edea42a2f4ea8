"""What people and judges think of answers: taken from requests and files, and handed to the store."""
