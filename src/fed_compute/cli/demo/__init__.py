"""`fed-compute demo`: a coordinator and clients as real processes on one machine, watched until the job is done."""
