-- Parameters have the names of types that clients of the ClearML protocol know.
update parameter
   set type = case type when 'integer' then 'int' when 'text' then 'str'
                        when 'boolean' then 'bool' when 'object' then 'dict' else type end;

-- Tasks that no agent runs are stopped when nothing is heard of them.
create index task_silent on task (state, last_update);
