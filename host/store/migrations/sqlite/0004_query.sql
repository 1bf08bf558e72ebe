-- Tasks in the order of a metric, without looking at the others.
create index series_last on series (workspace, title, series, last_value, task);
create index series_min on series (workspace, title, series, min_value, task);
create index series_max on series (workspace, title, series, max_value, task);
