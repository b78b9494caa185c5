"""The records in a relational database, by SQLAlchemy Core: SQLite by default, PostgreSQL by URL."""
