package postgres

import "os"

// libpqVariables fill in what the URL of a connection leaves out.
var libpqVariables = []string{
	"PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGREQUIREAUTH",
	"PGCHANNELBINDING", "PGSERVICE", "PGSERVICEFILE",
	"PGOPTIONS", "PGAPPNAME", "PGSSLMODE", "PGREQUIRESSL", "PGSSLNEGOTIATION", "PGSSLCOMPRESSION", "PGSSLCERT",
	"PGSSLKEY", "PGSSLCERTMODE", "PGSSLROOTCERT",
	"PGSSLCRL", "PGSSLCRLDIR", "PGSSLSNI", "PGSSLPASSWORD", "PGREQUIREPEER", "PGSSLMINPROTOCOLVERSION",
	"PGSSLMAXPROTOCOLVERSION", "PGGSSENCMODE",
	"PGKRBSRVNAME", "PGGSSLIB", "PGGSSDELEGATION", "PGCONNECT_TIMEOUT", "PGCLIENTENCODING", "PGTARGETSESSIONATTRS",
	"PGLOADBALANCEHOSTS",
	"PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGSYSCONFDIR", "PGLOCALEDIR",
}

// forgetEnvironment takes them out of the environment of this process: they are meant for another
// server. The driver reads them whatever a URL says, and some cannot be outvoted there.
func forgetEnvironment() {
	for _, name := range libpqVariables {
		_ = os.Unsetenv(name) // fails for names that are none
	}
}
