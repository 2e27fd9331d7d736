"""What experiments on images share: data sets, laws of their pixels, measures of quality."""
