package keys

import "time"

// SetTxTime changes how long one hand-out may take. Call it before Run.
func (s *Service) SetTxTime(d time.Duration) { s.txTime = d }
