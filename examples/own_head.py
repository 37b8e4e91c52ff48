"""Another head on the same features: any scikit-learn classifier, the features from the cache."""

from pathlib import Path

from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from headstart.sklearn import ImageFeatures

images = sorted(str(path) for path in Path("photos").glob("*/*.jpg"))
labels = [Path(path).parent.name for path in images]
pipeline = make_pipeline(ImageFeatures(), KNeighborsClassifier(n_neighbors=3, metric="cosine"))
print("nearest neighbours:", cross_val_score(pipeline, images, labels, cv=3))
