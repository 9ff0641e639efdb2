// Package recipes is the code of docs/recipes.md and docs/adopt.md, whole and as it stands there. It is to be read and
// copied, not imported.
//
// It promises that each function can be called again with the same arguments, by another process too, until it returns no
// error: what it has asked before it asks under the same identity, but for what is to be known as it is now. It knows dibs
// by its client only.
package recipes
