"""Static programs in the declarative style: placeholders, recorded torch calls, an executor."""
