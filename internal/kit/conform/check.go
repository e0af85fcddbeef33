package conform

import "slices"

// A check is one promise of the contract and a way to try it.
type check struct {
	name string // topic.what; stays the same, because people's CI names it
	says string // the promise, in one sentence
	run  func(t *try)
}

// The checks that judge the whole run, after all others.
const (
	answersCheck = "contract.answers"
	cleanUpCheck = "accounts.clean-up"
)

// checks lists every check in the order of the report. The two without a run are decided at the
// end.
func checks() []check {
	return slices.Concat(contractChecks, errorChecks, accountChecks, deletionChecks, tokenChecks, refreshChecks,
		deviceChecks,
		uploadChecks, rotationChecks, handOutChecks, takeoverChecks, messageChecks, idempotencyChecks, deliveryChecks,
		listChecks, acknowledgeChecks, gatewayChecks, socketChecks, accountingChecks, limitChecks,
		attachmentChecks, backupChecks, pushChecks, certificateChecks, sealedChecks)
}
