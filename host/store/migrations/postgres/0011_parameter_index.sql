-- Tasks by the values of a parameter: the number that it is, and the beginning of its text.
create index parameter_number on parameter (
    workspace, section, name,
    (case when type in ('int', 'integer', 'float') and length(value) <= 300 and value ~
               '^-?([0-9]+(\.[0-9]+)?|[0-9](\.[0-9]{1,20})?[eE][+-]?([0-9]{1,2}|[12][0-9]{2}|30[0-7]))$'
          then cast(value as double precision) end),
    task);
create index parameter_text on parameter (workspace, section, name, substr(value, 1, 100), task);

-- Tasks in the order of their names, which goes by code points.
create index task_by_name on task (workspace, name collate "C", id);
