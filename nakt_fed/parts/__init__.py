"""The parts on their own, for a notebook or the CLI: train a network, predict a folder, evaluate a checkpoint."""

from nakt_fed.parts.evaluate import evaluate_folder
from nakt_fed.parts.load import load_predictor
from nakt_fed.parts.predict import CONTOUR, predict_folder
from nakt_fed.parts.train import train_network

__all__ = ["CONTOUR", "evaluate_folder", "load_predictor", "predict_folder", "train_network"]
