"""What programs leave behind for people: lines of a log, and the experiment of MLflow's runs."""
