"""What people see in a browser: for now one page that says what runs here and how to call it."""
