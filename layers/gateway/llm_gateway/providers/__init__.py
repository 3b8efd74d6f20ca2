"""One folder for each vendor of models; the vendor's types and errors end there."""
