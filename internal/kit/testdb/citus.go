package testdb

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// StandInCitus has a database answer what `obscura cluster` asks of Citus, with so many workers. It
// is not Citus, and proves nothing about it: it lets the order of the steps be tried, and what is
// left when one fails. The rows of a distributed table are copied into the schema workers, as Citus
// copies them into shards. The calls whose numbers are in the table breaks fail, and while there is
// a row in holds all wait. A worker that is asked itself is the same database, through a proxy,
// which may die or be closed.
func StandInCitus(t testing.TB, database string, workers int) (proxies []*Proxy) {
	t.Helper()
	server, err := serverURL() // of a superuser, who may write into catalogs
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("testdb: the URL of the server does not parse")
	}
	of, err := url.Parse(database)
	if err != nil {
		t.Fatal("testdb: the URL of the database does not parse")
	}
	u.Path = of.Path
	var nodes []string
	for n := range workers {
		proxy := NewProxy(t, database)
		through, err := url.Parse(proxy.URL)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, fmt.Sprintf("(%d, '%s', %s)", n+1, through.Hostname(), through.Port()))
		proxies = append(proxies, proxy)
	}
	Exec(t, u.String(), fmt.Sprintf(standIn, strings.Join(nodes, ", ")))
	return proxies
}

const standIn = `
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
	VALUES (99999, 'citus', 10, 11, false, '13.2-1');
CREATE TABLE pg_catalog.pg_dist_local_group AS SELECT 0 AS groupid;
CREATE TABLE pg_catalog.pg_dist_node AS SELECT groupid, nodename, nodeport, 'primary' AS noderole,
	'default' AS nodecluster, true AS isactive, true AS shouldhaveshards FROM (VALUES %s) AS n (groupid, nodename, nodeport);
DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET citus.shard_replication_factor = 1', current_database()); END $$;
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod "char", partkey text, colocationid int);
CREATE TABLE pg_catalog.pg_dist_placement (shardid bigint, shardstate int, groupid int);
CREATE VIEW pg_catalog.pg_dist_shard AS SELECT p.logicalrelid, s.shardid FROM pg_dist_partition p CROSS JOIN pg_dist_placement s;
CREATE FUNCTION shard_name(of regclass, shard bigint) RETURNS text LANGUAGE sql RETURN 'workers.' || of;
CREATE SCHEMA workers;
CREATE SEQUENCE calls;
CREATE TABLE breaks (call bigint);
CREATE TABLE holds (since timestamptz);

CREATE FUNCTION called() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM holds) LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
	IF nextval('calls') IN (SELECT call FROM breaks) THEN
		RAISE EXCEPTION 'a worker has gone' USING ERRCODE = '08006';
	END IF;
END $$;

CREATE FUNCTION column_to_column_name(of regclass, partkey text) RETURNS text LANGUAGE sql RETURN partkey;

CREATE FUNCTION create_distributed_table(of regclass, by text, colocate_with text, shard_count int DEFAULT NULL) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM called();
	IF NOT EXISTS (SELECT FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
			WHERE k.conrelid = of AND k.contype = 'p' AND a.attname = by)
		OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = of AND contype = 'f') THEN
		RAISE EXCEPTION '%% cannot be distributed', of USING ERRCODE = '0A000';
	END IF;
	EXECUTE format('CREATE TABLE workers.%%I (LIKE %%s INCLUDING CONSTRAINTS)', of, of);
	EXECUTE format('INSERT INTO workers.%%I TABLE %%s', of, of);
	IF colocate_with = 'none' THEN
		INSERT INTO pg_dist_placement SELECT n, 1, 1 + n %% (SELECT count(*) FROM pg_dist_node)
			FROM generate_series(0, shard_count - 1) AS n;
		INSERT INTO pg_dist_partition VALUES (of, 'h', by, 7);
	ELSE
		INSERT INTO pg_dist_partition SELECT of, 'h', by, colocationid FROM pg_dist_partition
			WHERE logicalrelid = colocate_with::regclass;
	END IF;
END $$;

CREATE FUNCTION get_shard_id_for_distribution_column(of regclass, value smallint) RETURNS bigint LANGUAGE sql
	RETURN (hashint2(value)::bigint + 2147483648) / (4294967296 / (SELECT count(*) FROM pg_dist_placement));

CREATE FUNCTION citus_move_shard_placement(shard bigint, from_name text, from_port int, to_name text, to_port int,
	shard_transfer_mode text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM called();
	UPDATE pg_dist_placement SET groupid = (SELECT groupid FROM pg_dist_node WHERE (nodename, nodeport) = (to_name, to_port))
		WHERE shardid = shard AND groupid = (SELECT groupid FROM pg_dist_node WHERE (nodename, nodeport) = (from_name, from_port));
	IF NOT FOUND THEN
		RAISE EXCEPTION 'it is not there';
	END IF;
END $$;

CREATE FUNCTION truncate_local_data_after_distributing_table(of regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM called();
	EXECUTE format('TRUNCATE %%s', of);
	IF (SELECT relkind = 'r' FROM pg_class WHERE oid = of) THEN -- who asks for it gets what the workers have
		EXECUTE format('ALTER TABLE workers.%%I INHERIT %%s', of, of);
	END IF;
END $$;

GRANT ALL ON SCHEMA workers TO public;
GRANT ALL ON pg_dist_local_group, pg_dist_node, pg_dist_partition, pg_dist_placement, pg_dist_shard, breaks, holds TO public;
GRANT ALL ON SEQUENCE calls TO public;
`
