// Package cli is the command line of afterimage: what the flags say, what is
// printed, and the exit status. Everything it does is done by other packages.
package cli
