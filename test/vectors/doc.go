// Package vectors holds the published vectors: inputs of a verifier, each with the code that this one answers. A vector
// that is refused breaks exactly one check: everything else about it is valid, signatures and digests included. Their form
// is in v1/README.md. The program in package make writes them; `make vectors` runs the committed ones and fresh ones, and
// tries that each check of the verifier is held by a vector.
package vectors
