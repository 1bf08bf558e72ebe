-- Tasks by the values of a parameter: the number that it is, and the beginning of its text.
create index parameter_number on parameter (
    workspace, section, name,
    (case when type in ('int', 'integer', 'float') and json_valid(value)
               and json_type(value) in ('integer', 'real')
          then cast(value as double precision) end),
    task);
create index parameter_text on parameter (workspace, section, name, substr(value, 1, 100), task);
