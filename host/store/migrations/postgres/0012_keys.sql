-- Whose a key is. Keys of before have no name.
alter table api_key add column name text not null default '';
