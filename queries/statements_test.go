// Package queries_test holds the statements about devices against what lets them be sent on, whole,
// to the one server that has a device's bucket. It needs no such servers.
package queries_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// ofDevices are the tables that have a column bucket, and their partitions.
var ofDevices = map[string]bool{"mailboxes": true, "messages": true, "gaps": true, "receipts": true,
	"receipts_0": true, "receipts_1": true, "receipts_2": true, "pre_key_stocks": true, "ec_pre_keys": true, "kyber_pre_keys": true, "push_tokens": true, "push_wakeups": true,
	"buckets": true}

// everywhere are the statements that are about all buckets, and why that is right.
var everywhere = map[string]string{
	"CountBuckets":    "asked once, at the start",
	"EmptyReceipts0":  "a TRUNCATE",
	"EmptyReceipts1":  "a TRUNCATE",
	"EmptyReceipts2":  "a TRUNCATE",
	"VacuumMailboxes": "a VACUUM",
	"VacuumKeys":      "a VACUUM",
}

// withAccounts are the statements that join a table of devices with one that is not: they need one
// server that has both.
var withAccounts = map[string]string{
	"TakeBundles": "one statement hands out keys together with the identity that they belong to",
}

// statement is one of queries/*.sql, with $1 for @bucket and further numbers for other parameters.
type statement struct {
	name, sql string
	ofBucket  bool // it has @bucket
}

var (
	named     = regexp.MustCompile(`(?m)^-- name: (\w+) :\w+\n`)
	parameter = regexp.MustCompile(`@(\w+)`)
	comment   = regexp.MustCompile(`(?m)--.*$`)
)

// number replaces the names of parameters by numbers.
func number(name, sql string) statement {
	numbers, found := map[string]int{"@bucket": 1}, false
	sql = parameter.ReplaceAllStringFunc(comment.ReplaceAllString(sql, ""), func(p string) string {
		if numbers[p] == 0 {
			numbers[p] = len(numbers) + 1
		}
		found = found || p == "@bucket"
		return "$" + strconv.Itoa(numbers[p])
	})
	return statement{name, strings.TrimSpace(sql), found}
}

func statements(t *testing.T) (all []statement) {
	t.Helper()
	files, err := filepath.Glob("*.sql")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := named.FindAllStringSubmatchIndex(string(text), -1)
		for i, m := range at {
			end := len(text)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			all = append(all, number(string(text[m[2]:m[3]]), string(text[m[1]:end])))
		}
	}
	return all
}
