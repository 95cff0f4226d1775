"""Does the number of senses mean what it says? Tests on truth that needs no judge's opinion."""
