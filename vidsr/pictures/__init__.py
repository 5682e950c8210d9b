"""Still pictures and animations: what is in their files, their pixels, and how they are written."""
