package app_test

// audit has Postgres itself keep who wrote what: which process, by the name of its connections, changed rows of which
// partition, and whose partition that was at that moment. It is written in the transaction of the change, so what was
// rolled back is not in it.
func (d *deployment) audit() {
	d.t.Helper()
	d.exec(`
CREATE TABLE audit (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
	app text NOT NULL DEFAULT current_setting('application_name'), tab text NOT NULL, acquired boolean NOT NULL,
	partition integer NOT NULL, writer_id uuid NOT NULL, writer_epoch bigint NOT NULL
);
CREATE FUNCTION audit_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO audit (tab, acquired, partition, writer_id, writer_epoch)
	SELECT TG_TABLE_NAME, false, p.partition, p.writer_id, p.writer_epoch
	FROM partitions p WHERE p.partition IN (SELECT c.partition FROM changed c);
	RETURN NULL;
END $$;
CREATE FUNCTION audit_partition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO audit (tab, acquired, partition, writer_id, writer_epoch)
	VALUES ('partitions', TG_OP = 'INSERT' OR OLD.writer_id <> NEW.writer_id, NEW.partition, NEW.writer_id, NEW.writer_epoch);
	RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT ON decisions REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION audit_rows();
CREATE TRIGGER audit AFTER INSERT ON names REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION audit_rows();
CREATE TRIGGER audit_update AFTER UPDATE ON names REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION audit_rows();
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON partitions FOR EACH ROW EXECUTE FUNCTION audit_partition();`)
}

// oneWriter fails the test for every change that was not made by the process that had taken the partition over.
func (d *deployment) oneWriter() {
	d.t.Helper()
	type change struct {
		At, App, Table, Owner string
		Partition             int32
		Epoch                 int64
	}
	foreign := rows[change](d, `SELECT a.at::text, a.app, a.tab, coalesce(o.app, 'nobody'), a.partition, a.writer_epoch
		FROM audit a LEFT JOIN audit o ON o.acquired AND o.partition = a.partition AND o.writer_id = a.writer_id
		WHERE o.app IS DISTINCT FROM a.app ORDER BY a.id LIMIT 10`)
	for _, c := range foreign {
		d.t.Errorf("%s: %s wrote %s of partition %d, which %s had taken over (epoch %d)", c.At, c.App, c.Table, c.Partition, c.Owner, c.Epoch)
	}
	type total struct{ Takeovers, Changes, Writers int }
	n := rows[total](d, `SELECT count(*) FILTER (WHERE acquired), count(*), count(DISTINCT app) FROM audit`)[0]
	if n.Takeovers == 0 || n.Changes == n.Takeovers {
		d.t.Errorf("the audit saw %d changes and %d take-overs: it looked at nothing", n.Changes, n.Takeovers)
	}
	d.t.Logf("%d changes by %d processes, %d take-overs, %d changes by a writer that was fenced", n.Changes, n.Writers, n.Takeovers, len(foreign))
}
