"""From training to an embedded binary on scikit-learn's digits."""
