// Package grow fills the tables of a schema as years of claims leave them: names that somebody registered once, the decision of each
// of those claims, and one rejection for every four of them.
//
// It promises that a schema that it has filled looks to Postgres as one that has grown: keys, owners and request ids are spread over
// their indexes at random, the pages of those are as full as inserting one by one leaves them, log times rise with the position, and
// what is claimed from now on comes behind all that. It writes nothing but the tables of the schema it is given, and it is for
// measuring: nobody has asked for these names.
package grow
