// Package importer reads a file of names and claims each of them through the log.
//
// It promises that the same file imports to the same request ids, so that an import that was broken off, or run twice,
// changes nothing that stands; that of two rows with one name the first in the file is claimed first; and that every row
// is accounted for: accepted, rejected (and listed), or not done yet (and resumed). It writes to the log and reads
// outcomes; it never touches Postgres but through the ports it is given.
package importer
