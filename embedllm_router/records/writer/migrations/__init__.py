"""How a PostgreSQL database gets the tables of records: Alembic runs these scripts, see migrating.py."""
