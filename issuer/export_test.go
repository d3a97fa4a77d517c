package issuer

// Indexed is indexed.
var Indexed = indexed

// RecomputedBuckets and ConsumedSets are what CheckRows compares row by row.
var (
	RecomputedBuckets = append(append([]string{}, exact...), single...)
	ConsumedSets      = consumed
)
