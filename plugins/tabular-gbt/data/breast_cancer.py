"""Writes breast_cancer.csv beside this file, from the copy that scikit-learn distributes."""

from pathlib import Path

from sklearn.datasets import load_breast_cancer

data = load_breast_cancer()
names = [name.replace(" ", "_") for name in data.feature_names]
lines = [",".join([*names, "diagnosis"])]
for row, target in zip(data.data, data.target):
    numbers = (float(number) for number in row)
    texts = [str(int(n)) if n == int(n) else repr(n) for n in numbers]
    lines.append(",".join([*texts, str(data.target_names[target])]))
Path(__file__).with_name("breast_cancer.csv").write_text("\n".join(lines) + "\n")
