"""Modules:

- `slowddim.adaptive`: Weigh errors by how busy a picture is, and give busy pictures more steps: as proposed, as it can be meant, and as numerical analysis does it.
- `slowddim.animate`: A trajectory as a film: a player in the notebook, a GIF, an APNG or a page, without network and within a size budget.
- `slowddim.classifier`: A small network that knows a shirt from a coat, and 128 numbers by which it tells.
- `slowddim.cli`: `slowddim sample`, `train`, `fid` and the rest: the library for people who would rather not open Python.
- `slowddim.commands`: `slowddim reconstruct`, `interpolate` and `animate`: round trips and interpolations between images.
- `slowddim.continuous`: Keras' DDIM: an angle for time, the noise variance for a clock, images of unit variance, and the same loop as everywhere.
- `slowddim.core`: Small things every other room stands on: checks with clear errors, seeded noise, pixels, devices.
- `slowddim.data`: Fashion-MNIST, MNIST, CIFAR-10, scikit-learn's digits or a folder of images, as one tensor of bytes.
- `slowddim.ddim`: A family of samplers for one network: from deterministic to DDPM by one parameter, over any sub-sequence of the times.
- `slowddim.ddpm`: The ancestral sampler: one step, derived from Bayes' rule, and a loop over all thousand times.
- `slowddim.distances`: How far are two sets of pictures apart? As far as two clouds of numbers.
- `slowddim.fast`: The same network in the arithmetic this machine is fastest in, without touching the one you gave.
- `slowddim.fid`: A score for a set of pictures that says what it stands on: how many, whose features, which floor.
- `slowddim.files`: Tensors and facts in files: safetensors and JSON, written atomically, named by their digest, read without ever unpickling.
- `slowddim.generate`: Any number of images, in any batches, on any number of machines: image `i` is always the same image.
- `slowddim.guidance`: Labels for a network that knows them, and a scale for how closely the samples follow their label.
- `slowddim.interop`: The same schedules and predictions under the names that `diffusers` uses, in both directions.
- `slowddim.judges`: Eyes for digits and for airplanes: a reader of MNIST, and the main components of real pictures.
- `slowddim.latent`: Noise as a code: encode an image, decode it again, walk from one image to another.
- `slowddim.noising`: The algebra between a clean image, a noisy one and the noise: four lines, every direction, no loop.
- `slowddim.ode`: Deterministic sampling as a curve to follow: Euler, Adams-Bashforth, Heun and DPM-Solver++ are other coefficients for the one move.
- `slowddim.optim`: Steps that use all directions of a weight matrix equally: more is learned from the same images.
- `slowddim.oracle`: Noise predictors that are exactly right, so that samplers can be tested without training anything.
- `slowddim.presets`: Data, network, schedule and training under one name: the systems of the sources, ready to train.
- `slowddim.pretrained`: A trained network and its noise schedule by name, from a folder or from the hub, with a card that says what it is.
- `slowddim.run`: Training takes hours and computers fail: what a run needs to go on where it stopped, as if nothing had happened.
- `slowddim.schedule`: How much of the image is left at each time, and which times a sampler visits.
- `slowddim.schedulers`: Our steps in `diffusers`' clothes: schedulers that drop into its pipelines, and a loop that takes anybody's.
- `slowddim.steps`: One move of a sampler is one line, DDIM's equation 12. Every sampler of this library is a choice of its coefficients, and all of them run in one loop.
- `slowddim.studies`: `slowddim table`: every study of the registry, for any model, row by row, from the shell.
- `slowddim.study`: Every table of the course is a record in one registry: which rows it has, how a row is measured, and the command that fills it.
- `slowddim.tables`: How good samples are by solver, steps, noise and labels, and what they cost: table 1 of the paper, the course notebook's comparison with enough images, time, consistency, digits, airplanes.
- `slowddim.train`: Show the network a noisy image, ask for the noise, and do it again for hours without losing anything on the way.
- `slowddim.unet`: A small network that looks at a noisy image and a time, and says which part is noise.
- `slowddim.viz`: Grids, strips and curves: functions that take numbers and return figures.
- `slowddim.watch`: What a run shows while it lasts: strips of samples, models that are kept on the way, and its losses in a tracker."""

__version__ = "0.1.0"
