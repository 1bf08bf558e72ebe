"""Writes diabetes.csv beside this file, from the copy that scikit-learn distributes."""

from pathlib import Path

from sklearn.datasets import load_diabetes

data = load_diabetes(scaled=False)
names = [*data.feature_names, "progression"]
rows = [[*row, target] for row, target in zip(data.data, data.target)]
lines = [",".join(names)]
for row in rows:
    numbers = (float(number) for number in row)
    lines.append(",".join(str(int(n)) if n == int(n) else repr(n) for n in numbers))
Path(__file__).with_name("diabetes.csv").write_text("\n".join(lines) + "\n")
