package main

import "github.com/obscura-relay/obscura/internal/admin"

type clusterCmd struct {
	Status     operation[admin.ClusterStatus]     `cmd:"" help:"Show the workers with their buckets and bytes. Changes nothing."`
	Plan       operation[admin.ClusterPlan]       `cmd:"" help:"Say what distribute would do, and what stands in its way now. Changes nothing."`
	Distribute operation[admin.ClusterDistribute] `cmd:"" help:"Spread what is kept for devices over the workers, while no relay runs. It can be repeated after a break. Nobody has run it on Citus yet, and relays of this version cannot run on what it makes: it asks for --trial."`
}
