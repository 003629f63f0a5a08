"""What people read: tables (`tables`, `terminal`), pictures (`overlay`, `panels`), and a page with both (`pages`)."""
