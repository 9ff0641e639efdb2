// Package dibstest is the test harness: a Kafka and a Postgres for whoever needs them, on any machine.
//
// What a test gets, first choice first:
//
//	Kafka     DIBS_TEST_KAFKA (addresses, comma separated); Docker; Apache Kafka from its jars, where java and mvn
//	          are; else the embedded fake of package dev
//	Postgres  DIBS_TEST_POSTGRES (a DSN); Docker; an installed server; else the embedded one of package dev
//
// The word "embedded" instead of an address asks for the last choice.
//
// A server is started when a test first asks for it, is shared by the tests of one test binary, and ends with that
// binary, also when it is killed. The command dibstest/cmd/with-servers starts one pair for a whole `go test ./...`.
// Each test has its own topic prefix and schema, so tests run in parallel; one that restarts or kills a server starts
// its own with [OwnKafka] or [OwnPostgres].
//
// Private values are written down nowhere: tests make theirs with [Address] or with [Canary] in them, and each test's topics
// and schema are read through for them before they are deleted. At the end so are the data and the logs of servers that
// were started here. A finding fails the test, or the run, and says what it is and where.
//
// Which it was is printed to standard error (go test shows it with -v or when a test fails; with-servers always). A
// test that means nothing on the fake calls [NeedRealKafka] and is skipped there, counted, and reported at the end.
// DIBS_TEST_REQUIRE=kafka,postgres turns both the fall-back and the skip into a failure; with producers in it, also the
// skip of a test that calls [Needs] for want of another language's tools or registry.
//
// Every test binary that uses this package hands its TestMain to [Main]. The package imports no adapter of ours, so
// that adapters can use it from their external test packages.
package dibstest
