"""Small applications that show how a Django team uses this project."""
