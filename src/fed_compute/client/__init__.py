"""The volunteer's side: fetch a task, train on local data, send the update."""
