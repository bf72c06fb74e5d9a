"""The real servers that the tests in tests/real meet; nothing here knows of this project's own code."""
