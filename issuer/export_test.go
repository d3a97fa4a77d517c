package issuer

// Indexed is indexed.
var Indexed = indexed
