package api

import (
	"strings"
	"testing"

	"github.com/obscura-relay/obscura/internal/limit"
)

// A new operation needs a row in LimitTable, and a row a caller that the guard knows.
func TestEveryOperationOfTheContractHasALimit(t *testing.T) {
	t.Parallel()
	spec, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	operations := loadOperations(spec)
	known := map[string]*operation{}
	for _, op := range operations {
		known[op.id] = op
		if !isLimited(op.id) {
			t.Errorf("%s has no limit", op.id)
		}
	}
	names := map[string]bool{}
	for _, row := range LimitTable {
		if names[row.Name] || row.Name == "" || row.What == "" || row.Default.Events < 1 || row.Default.Per <= 0 {
			t.Errorf("the row %+v is not whole, or stands twice", row)
		}
		names[row.Name] = true
		for _, id := range row.Operations {
			op := known[id]
			switch {
			case op == nil:
				t.Errorf("%s limits %s, which the contract does not have", row.Name, id)
			case id == "connectGateway": // its handler counts, when it knows who connects
			case id == sealedSends && row.Per == PerToken: // as well, when it knows the tokens
			case op.public && row.Per != PerAddress:
				t.Errorf("%s limits %s by %s, but anybody may call it", row.Name, id, row.Per)
			case row.Per == PerDevice && !op.deviceScoped:
				t.Errorf("%s limits %s by device, but a user may call it too", row.Name, id)
			}
		}
	}
}

func TestALimitIsChangedByItsName(t *testing.T) {
	t.Parallel()
	one := limit.Rate{Events: 1, Per: 3600e9}
	l, err := NewLimits(map[string]limit.Rate{"sends": one})
	if err != nil {
		t.Fatal(err)
	}
	sends := l.of["sendMessages"]
	if len(sends) != 2 || sends[0].Take(limitKey{}) != 0 || sends[0].Take(limitKey{}) == 0 ||
		sends[1].Take(limitKey{}) != 0 || sends[1].Take(limitKey{}) != 0 {
		t.Error("sends is not the one that was changed")
	}
	_, err = NewLimits(map[string]limit.Rate{"sends": one, "frobs": one})
	if err == nil || !strings.HasPrefix(err.Error(), `there is no limit "frobs"; the limits are register, log-in, `) {
		t.Error(err)
	}
}
